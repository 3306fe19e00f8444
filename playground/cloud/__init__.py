"""What runs inside the local AWS's own interpreter: ministack, with a CloudFormation that behaves as AWS's does.

`python -m playground.cloud` starts it. Read `engine.py` first. Nothing here imports more than the standard library,
yaml and ministack, and nothing outside this package imports ministack.
"""
