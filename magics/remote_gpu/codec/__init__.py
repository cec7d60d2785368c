"""Values as bytes: out as pickles that carry their large memory apart, in through constructors of our own."""
