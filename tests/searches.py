"""What the tests of the search for all composers share."""

import json
import time
from pathlib import Path

import numpy as np

from composer_classify.collection import open_corpus
from composer_classify.optimization import Trial
from composer_classify.tuning import Found, TwoPartClassifier, tune

N_LANDMARKS = 90


class Noted(TwoPartClassifier):
    "A classifier that leaves a mark for each training, with the rows it learned from and was asked."

    marks: Path = None
    pause = 0.0  # seconds for each training

    def fit(self, X, y):
        time.sleep(self.pause)
        self.learned_ = X[:, 0].tolist()
        return super().fit(X, y)

    def predict(self, X):
        if self.marks:
            with open(self.marks, "a") as file:
                file.write(json.dumps(dict(learned=self.learned_, asked=X[:, 0].tolist())) + "\n")
        return super().predict(X)


def trial_of(store: Path, folder: Path) -> Trial:
    "A trial whose outcomes lie in a folder."
    return Trial(Noted(Path(store), N_LANDMARKS), str(Path(folder, "kept")), Path(store).name, "f1_macro")


def search_slowly(store: str, folder: str, pause: float) -> Found:
    "A search on the embedded corpus. Trials are kept, and marked."
    Path(folder).mkdir(exist_ok=True)
    Noted.marks, Noted.pause = Path(folder, "marks"), float(pause)
    labels = open_corpus("embedded").labels
    return tune(trial_of(Path(store), Path(folder)), 5, np.arange(len(labels)), labels, 2)
