"""Configuration as code: what a file may hold, one small file a noun, in the order it is applied.

A further noun is a module with a class like those here, and its place in NOUNS.
"""

from collections.abc import Sequence

from tallystick.cli.config.alerts import Alerts
from tallystick.cli.config.api_keys import ApiKeys
from tallystick.cli.config.channels import Channels
from tallystick.cli.config.customers import Customers
from tallystick.cli.config.exports import Exports
from tallystick.cli.config.limits import Limits
from tallystick.cli.config.meters import Meters
from tallystick.cli.config.noun import Noun
from tallystick.cli.config.plans import Plans
from tallystick.cli.config.reports import Reports
from tallystick.cli.config.retention import Retention
from tallystick.cli.config.sources import Sources
from tallystick.cli.config.subscriptions import Subscriptions
from tallystick.cli.config.views import Views

NOUNS: Sequence[Noun] = (
    Meters(),
    Customers(),
    Plans(),
    Subscriptions(),
    Limits(),
    Channels(),
    Alerts(),
    Views(),
    Reports(),
    ApiKeys(),
    Retention(),
    Exports(),
    Sources(),
)
