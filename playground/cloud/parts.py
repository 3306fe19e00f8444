"""The parts of ministack that the engine is built from, under public names: what to check after an upgrade.

ministack offers no interface for this, so the names are its private ones. `hooks.py` replaces some; here nothing is.
"""

from __future__ import annotations

from ministack.core import iam_actions, lambda_runtime
from ministack.core.concurrency import run_reentrant
from ministack.core.responses import get_account_id, get_region, new_uuid, now_iso
from ministack.services import cloudformation, ec2, lambda_svc, ssm
from ministack.services.cloudformation import _exports as exports
from ministack.services.cloudformation import _stack_events as stack_events
from ministack.services.cloudformation import _stacks as stacks
from ministack.services.cloudformation import changesets, custom_resource, handlers, provisioners
from ministack.services.cloudformation import stacks as stack_operations
from ministack.services.cloudformation.custom_resource import _gateway_url as gateway_url
from ministack.services.cloudformation.custom_resource import _lock as answers_lock
from ministack.services.cloudformation.custom_resource import _normalise_resource_properties as as_strings
from ministack.services.cloudformation.custom_resource import _pending as answers
from ministack.services.cloudformation.custom_resource import _response_url as response_url
from ministack.services.cloudformation.custom_resource import register_token
from ministack.services.cloudformation.engine import _NO_VALUE as NO_VALUE
from ministack.services.cloudformation.engine import _apply_transforms as apply_transforms
from ministack.services.cloudformation.engine import _evaluate_conditions as evaluate_conditions
from ministack.services.cloudformation.engine import _extract_deps as extract_dependencies
from ministack.services.cloudformation.engine import _parse_template as parse_template
from ministack.services.cloudformation.engine import _resolve_dynamic_references as resolve_dynamic_references
from ministack.services.cloudformation.engine import _resolve_parameters as resolve_parameters
from ministack.services.cloudformation.engine import _resolve_refs as resolve_references
from ministack.services.cloudformation.helpers import _resolve_template as fetch_template
from ministack.services.cloudformation.provisioners import _DEFERRED_PREDECESSOR_DELETES as DEFERRED_DELETES
from ministack.services.cloudformation.provisioners import _NAME_SEED as NAME_SEED
from ministack.services.cloudformation.provisioners import _RETAIN_REPLACED as RETAIN_REPLACED
from ministack.services.cloudformation.provisioners import _RETAINING_POLICIES as RETAINING_POLICIES
from ministack.services.cloudformation.provisioners import _delete_resource as delete_resource
from ministack.services.cloudformation.provisioners import _provision_resource as provision_resource
from ministack.services.cloudformation.provisioners import _replacing_change as replacing_change
from ministack.services.cloudformation.provisioners import _snapshot_resource as snapshot_resource
from ministack.services.cloudformation.provisioners import _tag_map as tag_map
from ministack.services.cloudformation.provisioners import _update_resource as update_resource
from ministack.services.cloudformation.provisioners import _with_stack_tags as with_stack_tags
from ministack.services.cloudformation.stacks import _add_event as add_event
from ministack.services.cloudformation.stacks import _fail_property_validation as fail_property_validation
from ministack.services.cloudformation.stacks import _resolve_stack_outputs as resolve_outputs
from ministack.services.cloudformation.stacks import _resource_policy as resource_policy
from ministack.services.lambda_svc import _execute_function_with_config_scope as execute_function
from ministack.services.lambda_svc import _execution_record_for_config as execution_record
from ministack.services.lambda_svc import _get_func_record_for_ref as find_function

__all__ = [
    "DEFERRED_DELETES",
    "NAME_SEED",
    "NO_VALUE",
    "RETAINING_POLICIES",
    "RETAIN_REPLACED",
    "add_event",
    "answers",
    "answers_lock",
    "apply_transforms",
    "as_strings",
    "changesets",
    "cloudformation",
    "custom_resource",
    "delete_resource",
    "ec2",
    "evaluate_conditions",
    "execute_function",
    "execution_record",
    "exports",
    "extract_dependencies",
    "fail_property_validation",
    "fetch_template",
    "find_function",
    "gateway_url",
    "get_account_id",
    "get_region",
    "handlers",
    "iam_actions",
    "lambda_runtime",
    "lambda_svc",
    "new_uuid",
    "now_iso",
    "parse_template",
    "provision_resource",
    "provisioners",
    "register_token",
    "replacing_change",
    "resolve_dynamic_references",
    "resolve_outputs",
    "resolve_parameters",
    "resolve_references",
    "resource_policy",
    "response_url",
    "run_reentrant",
    "snapshot_resource",
    "ssm",
    "stack_events",
    "stack_operations",
    "stacks",
    "tag_map",
    "update_resource",
    "with_stack_tags",
]
