"""What goes into a model: photos, arrays, drawn inputs that know their role, and what a model does to a picture first."""
