"""When tokens merge and which: the state of sampling runs, their images, and how a plan is made from features."""
