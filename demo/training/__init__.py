"""How the demonstration model was trained, from nothing: autoencoder, tokenizer, both networks."""
