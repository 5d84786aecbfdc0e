"""Small networks, corpora without a folder, and a classifier that notes what it is asked, for the tests of training and
searching."""

import json
import os
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import layers
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import RandomizedSearchCV

from builders import by_hand
from composer_classify.corpus import Corpus
from composer_classify.midi import NOTE_DTYPE
from composer_classify.optimization import Trial
from composer_classify.training import seeded
from composer_classify.windows import N_FLAGS

NAMES = ["Ada", "Bob"]
SHORT = dict(folds=3, epochs=1, steps=3)


def build_tiny(n_composers: int, length: int = 16) -> keras.Model:
    "A network that sees how often each thing happens in a window."
    notes = keras.Input((length, N_FLAGS), name="notes")
    return keras.Model(notes, layers.Dense(n_composers, activation="softmax")(layers.GlobalAveragePooling1D()(notes)))


def corpus_of(notes: list[np.ndarray], composers: list[str] = None, works: list[str] = None) -> Corpus:
    "A corpus of these pieces, with rows between them that are no files, and without a folder."
    composers, works = composers or NAMES[:1] * len(notes), works or [f"work {k}" for k in range(len(notes))]
    seconds = [float((part["onset_sec"] + part["duration_sec"]).max(initial=0)) for part in notes]
    rows = [
        row
        for composer, work, sounds in zip(composers, works, seconds)
        for row in [(None, "", "unreadable", 0.0), (composer, work, "ok", sounds)]
    ]
    manifest = pd.DataFrame(rows, columns=["composer", "work_id", "status", "duration_sec"])
    manifest["path"] = [f"{composer}/{k}.mid" for k, composer in enumerate(manifest["composer"])]
    manifest.attrs = dict(data_hash="0", source="made", recipe="made")
    ends = np.cumsum([len(part) for part in notes])
    offsets = np.array(
        [bounds for part, end in zip(notes, ends.tolist()) for bounds in [(0, 0), (end - len(part), end)]], np.int64
    )
    return Corpus(Path("made"), manifest, offsets, np.concatenate([np.empty(0, NOTE_DTYPE), *notes]))


def melody(seed: int, n: int = 40) -> np.ndarray:
    "A piece of random notes, one or two at each onset."
    rng = np.random.default_rng(seed)
    return by_hand(
        *(
            (onset, int(pitch), False)
            for onset in range(n)
            for pitch in np.sort(rng.choice(np.arange(30, 100), rng.integers(1, 3), replace=False))
        )
    )


class Counted(ClassifierMixin, BaseEstimator):
    "A classifier that knows how good it is, and leaves a mark for each training with the rows it learned from."

    def __init__(self, marks: str, quality: float = 0.5, epochs: int = 1):
        self.marks, self.quality, self.epochs = marks, quality, epochs

    def fit(self, X, y):
        self.classes_, self.rows = np.unique(y), X[:, 0].tolist()
        return self

    def predict(self, X):
        with open(self.marks, "a") as file:
            file.write(
                json.dumps(dict(learned=self.rows, asked=X[:, 0].tolist(), quality=self.quality, epochs=self.epochs))
                + "\n"
            )
        right = np.arange(len(X)) < round(len(X) * min(1, self.quality + self.epochs / 1000))
        return np.where(right, X[:, 1], 1 - X[:, 1])

    def marked(self) -> list[dict]:
        return [json.loads(line) for line in open(self.marks)] if os.path.exists(self.marks) else []


def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    "Rows that hold their own number and their class."
    y = np.arange(n) % 2
    return np.column_stack([np.arange(n), y]), y


class Slow(Counted):
    "A `Counted` that takes its time."

    pause = 0.0  # seconds for each training

    def fit(self, X, y):
        names = {"quality", "epochs", "marks"}  # a set, whose order each process chooses
        time.sleep(self.pause if "quality" in names else 0)
        return super().fit(X, y)


def search_slowly(folder: str, pause: float | str = 0.0) -> tuple[float, list[float]]:
    "The best of four qualities in three parts, and the score of each. Trials are kept."
    Slow.pause = float(pause)
    X, y = rows(24)
    trial = Trial(Slow(folder + "/marks"), folder + "/kept", "a")
    space = {"estimator__quality": [0.2, 0.4, 0.6, 0.8]}
    search = RandomizedSearchCV(trial, space, n_iter=4, cv=3, refit=False, random_state=0).fit(X, y)
    return search.best_params_["estimator__quality"], search.cv_results_["mean_test_score"].round(6).tolist()


def build_tiny_rolls(n_composers: int, optimizer: str, initializer: str, dropout: float, seed: int = 0) -> keras.Model:
    "In place of the report's network, with chance in all its places: first weights, order of chunks, dropout."
    rolls = keras.Input((128, 150, 1))
    pooled = layers.Dropout(dropout)(layers.Flatten()(layers.AveragePooling2D((8, 25))(rolls)))
    answer = layers.Dense(n_composers, activation="softmax", kernel_initializer=initializer)(pooled)
    model = seeded(keras.Model(rolls, answer), seed)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
