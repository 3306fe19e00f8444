"""The faults that a resize must survive: each caused for real, one row in a table, run by `make faults`.

    table.py    the faults as data: how each is caused, what must hold after
    rows/       what is done to cause them, by subject
    cloud.py    the playground, whose functions and machines take orders
    world.py    one stack in it, what a user does to it, and the orders that break it
    stream.py   its writer
    checks.py   what must hold after every fault
    run.py      one fault after the other, two side by side
    report.py   the table and result.json
    inside/     loaded into the function's process by Python's own `sitecustomize`: crash points, broken AWS calls

Nothing of it ships, and nothing in `functions/` knows of it.
"""
