"""All sensors of the code location."""

from assetgen_pipeline.defs.alert_sensors import deployment_alert_sensor, ledger_alert_sensor
from assetgen_pipeline.defs.expiry_sensor import expiring_urls_sensor
from assetgen_pipeline.defs.inbox_sensor import inbox_sensor
from assetgen_pipeline.defs.run_sensors import (
    cancelled_run_sensor,
    dead_run_sensor,
    failed_run_sensor,
)
from assetgen_pipeline.defs.waiting_sensor import waiting_sensor

SENSORS = [
    inbox_sensor,
    expiring_urls_sensor,
    waiting_sensor,
    dead_run_sensor,
    failed_run_sensor,
    cancelled_run_sensor,
    deployment_alert_sensor,
    ledger_alert_sensor,
]
