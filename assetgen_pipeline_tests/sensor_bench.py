"""Sensors asked as Dagster asks them, and what they say."""

import dagster as dg


def ask(sensor, deployment, cursor=None):
    """One tick of a sensor: what it answers."""
    resources = {"services": deployment.services, "deployment": deployment.deployment}
    with dg.build_sensor_context(
        instance=deployment.instance, cursor=cursor, resources=resources
    ) as context:
        return sensor(context)


def said(result):
    return result.skip_reason.skip_message if result.skip_reason else ""


def end_of_run(sensor, run_id, deployment, event):
    """What a sensor on runs is shown of a run that is over."""
    return dg.build_run_status_sensor_context(
        sensor_name=sensor.name,
        dagster_instance=deployment.instance,
        dagster_run=deployment.instance.get_run_by_id(run_id),
        dagster_event=event,
        resources={name: deployment.resources[name] for name in ("services", "alerting")},
    )
