"""The engine: skorch nets that train autoencoders. Nothing here is public."""
