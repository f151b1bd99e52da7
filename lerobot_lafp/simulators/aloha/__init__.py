"""gym-aloha's cube transfer, demonstrated: a scripted expert, and the LeRobotDatasets it writes."""
