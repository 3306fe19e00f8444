#!/bin/sh
# Why did a stack fail? The sentences of its last failures, through all nested stacks, the oldest first.
#   sh scripts/why.sh STACK
# A parent's event names only the child that failed; the child's own events say why, also after it was rolled back
# and deleted, but then they are found by its ID alone.
set -eu

stack=${1:?usage: sh scripts/why.sh STACK}

# its events, a line each: StackId, ResourceType, PhysicalResourceId, ResourceStatus, then what is shown
events() {
    aws cloudformation describe-stack-events --stack-name "$1" --max-items 1000 --output text --query \
        'StackEvents[].[StackId,ResourceType,PhysicalResourceId,ResourceStatus,Timestamp,StackName,LogicalResourceId,ResourceStatusReason]'
}

failures() {
    happened=$(events "$1")
    printf '%s\n' "$happened" | awk -F '\t' '$4 ~ /FAILED$/ && $8 !~ /^Embedded stack/' | cut -f 5-
    for child in $(printf '%s\n' "$happened" |
        awk -F '\t' '$2 == "AWS::CloudFormation::Stack" && $3 ~ /^arn:/ && $3 != $1 { print $3 }' | sort -u); do
        failures "$child"
    done
}

failures "$stack" | sort | tail -n 20
