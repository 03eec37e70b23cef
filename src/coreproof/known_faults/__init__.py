"""What is publicly known to go wrong on Apple's systems, as data; where a model has it; the form that is known to be good."""
