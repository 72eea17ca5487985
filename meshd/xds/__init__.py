"""The xDS v3 protocol: resources to and from the model, and the stream state machines. Pure."""
