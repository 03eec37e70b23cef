"""What an input is for: indices, masks, lengths, numbers of a domain; found backwards from the operators that read it."""
