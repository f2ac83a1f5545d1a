"""What is measured of a trained model and not minimised: functions of pictures that give numbers.

The room sees tensors of images; it knows nothing of models, runs and training.
"""

from __future__ import annotations

from aelab.metrics.frequency import FrequencyError, error_by_frequency

__all__ = ["FrequencyError", "error_by_frequency"]
