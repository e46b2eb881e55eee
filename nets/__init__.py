"""The tutorial's lessons, in its order. A new lesson is one file here and one name in LESSONS."""

from nets import classification, regression
from nets.lesson import Lesson

LESSONS: dict[str, Lesson] = {lesson.key: lesson for lesson in (regression.LESSON, classification.LESSON)}
