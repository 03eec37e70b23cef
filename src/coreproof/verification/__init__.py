"""Two models value by value: how far apart, and where they part first."""
