"""How values leave the node: for each type a reducer that names a constructor of the laptop's and gives it plain arguments."""
