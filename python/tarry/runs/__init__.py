"""The runs of a view: the exchange that a request belongs to, where its calls stand, and what becomes of them."""
