"""How the demo model was trained, from nothing: autoencoder, tokenizer, both networks."""
