"""The custom resource provider that adds and removes etcd members, one at a time.

Read it from the edge inwards: ``handler`` (crhelper) → ``request`` (what CloudFormation asked)
→ ``service`` (gather, plan, apply) → ``planning`` (the decisions, pure) with ``gateway`` (etcd)
and ``aws`` (S3, EC2) as its hands.
"""

import os

# etcd3 0.12.0 carries protobuf code from 2019. Current protobuf loads it only with its pure Python
# implementation, chosen by this variable before the first import of `google.protobuf`. The package's
# own import is the one place that comes before all of them: on Lambda, in the tests, in the playground.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
