"""The stable codes of errors, in one table: what docs/reference/errors.md is made of.

`python -m tallystick.api.codes > docs/reference/errors.md` writes the page; a test fails where it differs, or where the
code of some error stands in no table.
"""

from tallystick.metering.verdict import BODY_CODES, EVENT_CODES

CODES: dict[str, tuple[int, str]] = {
    "bad_request": (400, "The request cannot be read."),
    "invalid_path": (400, "The path is not UTF-8."),
    "duplicate_key": (400, "A JSON object in the body has the same member twice."),
    "unauthenticated": (401, "No `Authorization: Bearer <key>`, or it is malformed."),
    "unknown_key": (401, "The key is not known, has expired, or has been revoked."),
    "login_unknown": (400, "The login was not begun here, or too long ago."),
    "login_failed": (401, "The login provider gave nothing that can be believed."),
    "key_expired": (401, "The key has expired."),
    "forbidden": (403, "This key may not do that."),
    "missing_scope": (403, "The key lacks the scope that the detail names."),
    "customer_token": (403, "A customer's token may not do that."),
    "scope_not_granted": (403, "A key cannot pass on a scope that it lacks."),
    "no_role": (403, "None of the person's roles may do anything."),
    "other_customer": (403, "The token belongs to another customer."),
    "other_tenant": (403, "Only the admin of the tenant `default` may do that."),
    "tenant_suspended": (403, "The tenant is suspended; what it has sent stays."),
    "not_found": (404, "There is no such thing."),
    "route_not_found": (404, "There is no such route."),
    "meter_not_found": (404, "There is no such meter."),
    "meter_version_not_found": (404, "The meter has no such version."),
    "customer_not_found": (404, "There is no such customer."),
    "event_not_found": (404, "No event with this source and id is recorded."),
    "plan_not_found": (404, "There is no such plan."),
    "plan_version_not_found": (404, "The plan has no such version."),
    "subscription_not_found": (404, "There is no such subscription."),
    "invoice_not_found": (404, "There is no such invoice."),
    "line_not_found": (404, "The invoice has no such line."),
    "plan_exists": (409, "There is a draft of this plan already."),
    "too_many_plans": (409, "The tenant has too many versions of plans."),
    "plan_not_published": (409, "Nobody can subscribe to this version."),
    "subscription_exists": (409, "There is a subscription with this key already."),
    "subscription_not_cancelled": (409, "No cancellation of the subscription lies ahead."),
    "period_closed": (409, "The period is invoiced already."),
    "invoice_void": (409, "The invoice is void."),
    "unknown_meter": (422, "There is no such meter."),
    "meter_needed": (422, "The price cannot be computed without the usage of a meter."),
    "unknown_charge": (422, "The plan has no such charge."),
    "unknown_add_on": (422, "The plan has no such add-on."),
    "currency_differs": (422, "The currencies of the two are not the same."),
    "no_subscription": (404, "The customer has no subscription at that moment."),
    "billing_off": (503, "Billing is switched off."),
    "backfill_not_found": (404, "There is no such backfill."),
    "no_backup": (404, "No backup was taken since the server started."),
    "tenant_not_found": (404, "There is no such tenant."),
    "api_key_not_found": (404, "There is no such key."),
    "token_not_found": (404, "There is no such token."),
    "grant_not_found": (404, "There is no such grant of credits."),
    "method_not_allowed": (405, "The route does not answer this method; `Allow` names those it does."),
    "not_acceptable": (406, "None of the content types in `Accept` can be given."),
    "request_timeout": (408, "The body did not arrive in time."),
    "conflict": (409, "It contradicts what is already there."),
    "idempotency_key_in_use": (409, "The first request with this Idempotency-Key is still running."),
    "meter_exists": (409, "The key belongs to a meter already."),
    "meter_archived": (409, "The meter is archived; create it again to go on."),
    "too_many_meters": (409, "The tenant has as many meters as it may have."),
    "customer_exists": (409, "The key belongs to a customer already."),
    "customer_archived": (409, "The customer is archived; create it again to go on."),
    "too_many_grants": (409, "The customer has as many grants of credits as it may have."),
    "subject_taken": (409, "A subject belongs to another customer; `reassign` moves it."),
    "external_id_taken": (409, "An external id belongs to another customer; each is unique in its system."),
    "stage_not_allowed": (
        409,
        "A customer cannot go from its stage to that one; the detail says where it can.",
    ),
    "customer_merged": (409, "The customer was merged into another already."),
    "too_many_subjects": (409, "The customer would have more subjects than one may have."),
    "merge_into_itself": (422, "A customer cannot be merged into itself."),
    "too_many_levels": (422, "Customers would stand below each other more levels deep than allowed."),
    "parent_cycle": (422, "The parent is the customer itself, or below it."),
    "parent_not_found": (422, "There is no such customer to be the parent."),
    "backfill_exists": (409, "The key belongs to a backfill already."),
    "too_many_backfills": (409, "The tenant has as many open backfills as it may have."),
    "backfill_not_open": (409, "The backfill is closed already, or was reverted."),
    "backfill_not_closed": (409, "Only a closed backfill can be reverted."),
    "tenant_exists": (409, "The key belongs to a tenant, or did."),
    "tenant_default": (409, "The tenant `default` cannot be deleted or suspended."),
    "api_key_revoked": (409, "The key is revoked."),
    "api_key_configured": (409, "The key comes from the settings, and is changed there."),
    "backup_running": (409, "A backup is being taken already."),
    "backup_exists": (409, "The place holds a finished backup."),
    "backup_place_taken": (409, "The place is not empty, and holds no unfinished backup."),
    "too_many_retentions": (409, "The tenant limits as many types as it may."),
    "data_dir_taken": (409, "A backup is restored into a new data directory and an empty store only."),
    "several_partitions": (409, "Not to be asked of an installation with several partitions."),
    "restore_unfinished": (409, "The data directory holds a restore that did not get to its end."),
    "precondition_failed": (412, "It has been changed in the meantime."),
    "invalid": (422, "The request is wrong; `errors` names every place."),
    "past_retention": (
        422,
        "Retention has deleted events of the range; the detail names the moment to ask from.",
    ),
    "invalid_target": (422, "Neither a directory nor an s3:// URL that can be used."),
    "backup_needs_sqlite": (422, "Only a catalog and a log on SQLite can be part of a backup."),
    "invalid_value": (422, "The parameter has no such value."),
    "nothing_accepted": (422, "No event was accepted; `results` says why, for each."),
    "unknown_parameter": (422, "The route has no such parameter."),
    "unknown_member": (422, "The body has a member that means nothing here."),
    "not_an_object": (422, "The body is not a JSON object."),
    "invalid_limit": (422, "`limit` is not a whole number in its range."),
    "invalid_cursor": (422, "`cursor` is none of ours."),
    "invalid_position": (422, "The position is none of ours."),
    "invalid_number": (422, "A decimal is needed."),
    "number_out_of_range": (422, "More digits than 20 before the point, or than 18 after it."),
    "invalid_idempotency_key": (422, "Idempotency-Key is not 1 to 255 visible ASCII characters."),
    "idempotency_key_reused": (422, "The Idempotency-Key was sent with another request before."),
    "unknown_dimension": (422, "The meter declares no such dimension."),
    "invalid_filter": (422, "A filter's operand is not what its operator needs."),
    "credit_unit_needed": (422, "Credits are either in a currency or in units of a meter."),
    "period_differs": (422, "Prices are tried for the billing period of the plan they replace."),
    "currency_mismatch": (422, "Prices are tried in the currency of the plan they replace."),
    "too_many_periods": (422, "A backtest would rate more billing periods than it may."),
    "payment_refused": (422, "The payment system will not have the invoice; the detail says why."),
    "too_precise": (422, "The amount has more digits after the point than its currency."),
    "scope_not_allowed": (422, "Units of a meter pay for that meter alone."),
    "not_for_meters": (422, "Only money is topped up by itself."),
    "empty_range": (422, "The range [from, to) is empty."),
    "too_many_rows": (422, "The answer would have more rows than `usage_rows_max`."),
    "no_corrections": (422, "The request neither retracts nor replaces anything."),
    "invalid_formula": (422, "The formula cannot be read; the detail names the column."),
    "invalid_alias": (
        422,
        "A meter's name in a formula is a letter or _, then letters, digits and _; no function's.",
    ),
    "not_aligned": (422, "Meters of one formula are asked for different ranges, windows, zones or groups."),
    "rate_not_defined": (422, "The meter's figures do not add up over time, so it has no rate."),
    "too_many_values": (422, "The exact figure would need more readings than one question may take."),
    "plan_state": (409, "A plan version in this state cannot do that."),
    "subscription_ended": (409, "The subscription has ended by then."),
    "subscription_not_started": (409, "The subscription begins later than that."),
    "subscription_paused": (409, "The subscription is paused at that moment already, or will be later."),
    "subscription_not_paused": (409, "The subscription is not paused at that moment."),
    "too_many_changes": (409, "The subscription was changed as often as it may be."),
    "time_out_of_range": (422, "Windows and periods cannot be made for that time."),
    "invalid_period": (422, "No length of a period or time that can be used."),
    "timing_not_allowed": (422, "A metered charge is billed in arrears."),
    "quantity_not_allowed": (422, "A charge has a meter or a quantity, not both."),
    "group_by_not_allowed": (422, "A charge without a meter has nothing to group by."),
    "charges_and_phases": (422, "A plan with phases has its charges in them."),
    "not_ascending": (422, "The amounts do not rise."),
    "unknown_currency": (422, "No ISO 4217 code of a currency that is paid in minor units."),
    "unknown_model": (422, "There is no such price model; the detail names those there are."),
    "tiers_not_ascending": (422, "A tier's `up_to` is not above the tier below."),
    "last_tier_not_open": (422, "The last tier has an end, beyond which units would never be billed."),
    "min_above_max": (422, "A minimum is greater than its maximum."),
    "convert_not_allowed": (422, "`convert` stands where units of several prices meet."),
    "nested_too_deep": (422, "Prices stand in prices deeper than is allowed."),
    "negative": (422, "The number must not be negative."),
    "too_small": (422, "The number is below its least value."),
    "too_large": (422, "The number is above its greatest value."),
    "repeated": (422, "Something is named twice."),
    "negative_quantity": (422, "A negative quantity has no price."),
    "no_matching_cell": (422, "The price has no cell for these dimensions, and no default."),
    "time_needed": (422, "The price changes over time, and the usage says no `at`."),
    "key_immutable": (422, "A key cannot be changed."),
    "invalid_setting": (422, "A setting cannot be read (command line)."),
    "too_many_requests": (429, "Too many requests; see Retry-After."),
    "rate_limited": (429, "More than a setting allows; the detail names it."),
    "share_exceeded": (429, "Too much of the tenant waits to be written already."),
    "no_move": (404, "No move was begun since the server started."),
    "move_target_taken": (409, "The cluster to move to is in use, or holds something else."),
    "move_elsewhere": (409, "This installation has begun to move to another cluster."),
    "move_running": (409, "This installation is moving already."),
    "move_differs": (500, "After a move both sides are not the same."),
    "moved": (503, "This installation moves, or has moved, to a cluster; it answers questions only."),
    "internal": (500, "An unexpected error; the log has its cause under the request's id."),
    "log_in_use": (500, "Another process has the event log open (at start)."),
    "log_damaged": (500, "Events of the log cannot be read as they were written."),
    "log_trimmed": (500, "Events of the log were trimmed before they were read."),
    "log_lost_events": (500, "The log has lost events that were being recorded."),
    "store_lost_events": (500, "The store lacks events it has confirmed."),
    "unavailable": (503, "A part is not available at the moment; see Retry-After."),
    "overloaded": (503, "Too many large bodies are arriving at once."),
    "log_busy": (503, "Too much waits for the event log."),
    "log_closed": (503, "The server is shutting down."),
    "log_unavailable": (
        503,
        "The event log cannot be written at the moment: its file, or a quorum of its servers.",
    ),
    "recorder_behind": (503, "Too much waits for the recorder."),
    "timed_out": (504, "The answer took longer than allowed."),
    "rebuild_not_begun": (504, "The recorder has not got to the rebuild yet; it will."),
    "not_recorded_in_time": (504, "Corrections are stored, and not counted yet; asking again is safe."),
    "position_not_recorded": (504, "`min_position` was not recorded within `wait_s_max`."),
    "storage_full": (507, "The disk is full; nothing of the request was stored."),
}
"""Code → status and meaning, beside those of event bodies (metering/verdict.py)."""

_HEAD = """# Errors

Every error is an RFC 9457 document, `application/problem+json`:

```json
{"type": "urn:tallystick:problem:missing_scope", "title": "This key may not do that", "status": 403,
 "detail": "This key lacks the scope events:write.", "code": "missing_scope", "errors": []}
```

`code` is stable: write programs against it, not against sentences. `errors` lists every place that is wrong, each with
`pointer` (a JSON pointer into the body, or a parameter's name), `code` and `detail`. 503 and 429 carry `Retry-After`. The
answer's `X-Request-Id` finds the request in the server's log.
"""


def page() -> str:
    """docs/reference/errors.md."""
    lines = [_HEAD, "## Codes of a request\n", "| status | code | meaning |", "|---|---|---|"]
    rows = [(str(status), code, meaning) for code, (status, meaning) in CODES.items()]
    for code, text in BODY_CODES.items():
        status, _, meaning = text.partition(". ")
        rows.append((status, code, meaning))
    lines.extend(f"| {status} | `{code}` | {meaning} |" for status, code, meaning in sorted(rows))
    lines += [
        "",
        "## Codes of an event",
        "",
        "In `results` of `POST /v1/events`, with `status: rejected`.",
        "",
    ]
    lines += ["| code | meaning |", "|---|---|"]
    lines.extend(f"| `{code}` | {meaning} |" for code, meaning in EVENT_CODES.items())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
