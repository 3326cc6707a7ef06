"""How good a trained variant is: accuracies, calibration, and the published robustness metrics."""
