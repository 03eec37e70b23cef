"""The doctor: rules that recognise known faults, repair them and prove the repair."""
