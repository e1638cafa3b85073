"""The sentences and voices of the speech dataset: short, phonetically varied, written for it; no sentence or voice is in two splits."""

from __future__ import annotations

TEST = """
The grey goose crossed the frozen pond.
Bring fresh bread and a jug of milk.
Her brother mends old wooden boats.
A thin mist hid the church tower.
Put both keys under the blue mat.
The judge asked for a short pause.
Five bright kites rose above us.
We heard thunder beyond the ridge.
His new shoes squeak on the tiles.
The cook tasted the soup twice.
Most birds fly south in autumn.
She threw the rope to the sailor.
A loud crash woke the whole house.
The child drew a very long snake.
Fold the map before you leave.
Ten men pushed the cart uphill.
The violin needs a better bow.
Rain drops ran down the window.
My uncle grows yellow roses.
The last bus leaves at midnight.
Check the oil before the journey.
They chose a cheap room near the beach.
An owl watched us from the oak.
The thief vanished in the crowd.
""".strip().splitlines()

DEV = """
The clock on the wall has stopped.
Young foxes play near the hedge.
He should have bought the large box.
A ship came slowly round the cape.
Please wash the cups and plates.
The teacher laughed at our joke.
Cold water dripped from the roof.
Nobody saw the moon that night.
""".strip().splitlines()

TRAIN = """
The farmer sold three brown cows.
A green leaf floats on the stream.
Turn left after the stone bridge.
Her voice was calm and very clear.
The engine made a strange noise.
We planted beans behind the shed.
Snow fell thickly on the valley.
Give the dog a piece of meat.
The paint on the door is wet.
Both teams played well on Sunday.
He wrote the date in the corner.
The old mill stands by the river.
Seven ducks swam past the pier.
Open the jar with a warm cloth.
The nurse checked each name twice.
A sharp knife cuts the rope fast.
They built the fence in one day.
The lamp gives a soft yellow light.
His horse jumped over the ditch.
Leave your coat beside the stove.
The queen wore a simple dress.
A small fire burned on the shore.
She keeps her coins in a tin.
The road is steep and narrow here.
Thick smoke rose from the chimney.
We ate fish and chips for lunch.
The boy hid behind the curtain.
Every shelf was full of books.
Pour the tea while it is hot.
The wind tore down the poster.
A white cat slept in the basket.
My watch runs five minutes slow.
The train arrived without warning.
Dig a hole for the apple tree.
The chief gave them good advice.
Our guests enjoyed the dance music.
The bridge shook as the truck passed.
He found a shell in the sand.
The garden smells of fresh mint.
Move the chair away from the fire.
A pale sun shone through the clouds.
The price of wool fell again.
She learned the poem by heart.
The carpenter fixed the loose step.
Few people know this hidden path.
Their house has a round red roof.
The match ended in a draw.
Use a brush to clean the pipe.
The king refused to sign the paper.
Bees buzzed around the open flower.
A coach stopped at the village inn.
The puzzle took him half an hour.
Keep the change and have a nice day.
The glass broke into tiny pieces.
We watched the stars from the hill.
The baker rises before the dawn.
Choose a card and hide it well.
The letter came from a distant town.
Strong waves washed over the deck.
The doctor told her to rest.
""".strip().splitlines()

_LANGUAGES = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en", "en-029", "en-gb-x-gbclan")
_VARIANTS = {
    "test": ("f2", "m1", "Annie", "Andy", "shelby", "Michael", "grandma", "Reed", "steph", "quincy", "Lee", "boris"),
    "dev": ("f5", "m4", "Alicia", "max"),
    "train": (
        "f1", "m2", "f3", "m3", "f4", "m5", "Andrea", "m7", "aunty", "klatt", "linda", "adam", "anika", "Alex",
        "edward2", "grandpa", "Mario", "Mike", "robert", "victor",
    ),
}  # fmt: skip
_PACE = {"f1": 20, "f2": 15, "Andrea": -25, "anika": -25}
"""Words per minute added for the variants whose own speaking rate is far from the others', so that every utterance fits."""


def voices(split: str) -> list[dict[str, str | int]]:
    """Return the voices of a split: name, espeak-ng ``voice`` (language+variant), ``rate`` in words per minute and ``pitch``."""
    return [
        {
            "name": v.lower(),
            "voice": f"{_LANGUAGES[i % len(_LANGUAGES)]}+{v}",
            "rate": 208 + 5 * (i % 3) + _PACE.get(v, 0),
            "pitch": 44 + 4 * (i % 5),
        }
        for i, v in enumerate(_VARIANTS[split])
    ]


def script(split: str) -> list[tuple[int, int, str]]:
    """Return who says what: (voice index, number of that voice's utterance, text), voice by voice, in a fixed order.

    Each test and dev sentence is said once; each training sentence by two voices.
    """
    texts = {"test": TEST, "dev": DEV, "train": TRAIN}[split]
    each = {"test": 2, "dev": 2, "train": 6}[split]
    n = len(_VARIANTS[split])
    return [(v, k, texts[(v * each + k) % len(texts)]) for v in range(n) for k in range(each)]
