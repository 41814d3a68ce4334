"""Networks that heads train: layers, autoencoder, prototypes, CDC's two heads."""
