"""LeRobot's own policies as the rivals of ours: narrowed to fit little data, at a learning rate for that."""

#: Chunks are for the caller to set.
ACT = (
    "--policy.type=act",
    "--policy.optimizer_lr=3e-4",
    "--policy.dim_model=128",
    "--policy.n_heads=4",
    "--policy.dim_feedforward=512",
    "--policy.n_encoder_layers=3",
    "--policy.latent_dim=16",
    "--policy.n_vae_encoder_layers=2",
    "--policy.pretrained_backbone_weights=null",
)
DIFFUSION = (
    "--policy.type=diffusion",
    "--policy.optimizer_lr=1e-3",
    "--policy.n_obs_steps=2",
    "--policy.down_dims=[32,64,128]",
    "--policy.diffusion_step_embed_dim=64",
    "--policy.noise_scheduler_type=DDIM",
    "--policy.num_inference_steps=10",
    "--policy.pretrained_backbone_weights=null",
)
