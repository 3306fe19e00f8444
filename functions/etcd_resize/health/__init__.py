"""The health report: what each member says of itself, against what the journal says should be there.

``report`` (PURE) judges, ``render`` (PURE) writes it down as text, as data and as metrics, ``examine`` gathers,
``handler`` is the Lambda function ``ClusterHealth``. Nothing here changes a membership.
"""
