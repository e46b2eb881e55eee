"""What lessons are made of: settings, data sets, networks, training, evaluation. Knows no lesson and no page."""

import environment

environment.fix_arithmetic()  # before torch is imported

import torch

torch.set_num_threads(1)  # also where a program of somebody's own has imported torch before
