"""What the pages' tests share beside the desk."""

from playwright.sync_api import Page


def serious(page: Page, *rules: str) -> list[str]:
    """What axe finds serious: each rule with an element that breaks it. The page has loaded axe."""
    only = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
    result = page.evaluate("options => axe.run(document, options)", {"resultTypes": ["violations"], **only})
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in result["violations"]
        if one["impact"] in ("serious", "critical")
    ]
