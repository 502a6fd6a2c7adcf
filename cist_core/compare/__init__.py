"""Rules beside each other: matching of mean entropy, which rho to take, rankings, teachers, the grid of the sliders."""
