"""What the readers of NVML and of the libraries that copy it are made of: functions, settings, telemetry."""
