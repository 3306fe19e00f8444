"""What the other modules talk about: frozen values, without I/O.

``cluster``: members, and the cluster as it was seen. ``identity``: who is who. ``machine``: what a machine must be told
to become a member. ``steps``: what a plan is made of. ``records``: what is remembered between two events. ``urls`` and
``stacks``: what an address, and what a stack's ID says.
"""
