#!/bin/sh
# Why did a stack fail? The sentences of its last failures, through its nested stacks, the oldest first.
#   sh scripts/why.sh STACK
# A parent's event names only the child that failed; the child's own events say why, also after it was rolled back
# and deleted, but then they are found by its ID alone.
set -eu

stack=${1:?usage: sh scripts/why.sh STACK}

events() {
    aws cloudformation describe-stack-events --stack-name "$1" --max-items 1000 --output text --query "$2"
}

all=$(events "$stack" "StackEvents[?ResourceType=='AWS::CloudFormation::Stack'].[PhysicalResourceId]" | grep '^arn:' | sort -u)
for one in $all; do
    events "$one" "StackEvents[?ends_with(ResourceStatus,'FAILED')].[Timestamp,StackName,LogicalResourceId,ResourceStatusReason]"
done | grep -v 'Embedded stack' | sort | tail -n 20
