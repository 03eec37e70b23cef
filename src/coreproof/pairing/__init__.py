"""Which value of one model is which value of the other, and what has to be tapped to see both."""
