"""surgery: edits by hand, and the doctor: rules that recognise known faults, repair them and prove the repair."""
