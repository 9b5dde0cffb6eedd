"""Do the statistics keep their promises: simulations with known truth, one file for each promise."""
