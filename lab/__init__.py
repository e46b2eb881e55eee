"""Building blocks of lessons: settings, data sets, networks, training, evaluation. Imports no lesson."""

import environment

environment.fix_arithmetic()  # before torch is imported

import torch

torch.set_num_threads(1)  # also takes effect if torch was imported before this package
