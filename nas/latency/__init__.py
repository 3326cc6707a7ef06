"""Latency of a configuration on a device, with its uncertainty. Importing this imports no runtime."""

from nas.latency.devices import DeviceStatus, check_device, devices
from nas.latency.service import measure, measure_many
from nas.runs.measurement import Measurement

__all__ = ["DeviceStatus", "Measurement", "check_device", "devices", "measure", "measure_many"]
