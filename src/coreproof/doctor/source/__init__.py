"""What the source tells about a model: how it is fed, what each layer ought to hold."""
