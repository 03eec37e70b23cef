"""An iOS app around a model, that proves the model on the device."""
