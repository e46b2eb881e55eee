"""The tutorial's lessons, in its order. A new lesson is one file here and one name in LESSONS."""

from nets import classification, regression
from nets.lesson import Lesson, Training

LESSONS: dict[str, Lesson] = {lesson.key: lesson for lesson in (regression.LESSON, classification.LESSON)}

TRAININGS: dict[str, Training] = {key: lesson for key, lesson in LESSONS.items() if isinstance(lesson, Training)}
