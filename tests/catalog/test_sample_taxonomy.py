"""What the sample shop's types say of each other."""

from __future__ import annotations

import pytest

from catalog.sample.taxonomy import ProductType, load_taxonomy

# Things whose names end in another thing's name and which are no such thing.
DIFFERENT = """
armchair: sun-lounger
balloons: wine-glasses
bath-towel: bath-mat
bed-frame: baby-cot
bed-pillow: cushion, pin-cushion, ring-pillow
belt: back-support, money-belt, suitcase-strap
bicycle-tyre: stapler
bracelet: anklet, fitness-tracker, smartwatch-strap
camera: baby-cam, webcam
conditioner: air-conditioner, fabric-softener
curtain-rod: shower-curtain-rod
curtains: shower-curtain-rings, shower-curtain-rod
cushion: cold-pack, dog-bed, gaming-chair-cushion, ink-pad, mattress, pin-cushion, ring-pillow, vr-face-cover
dark-chocolate: cocoa-powder
digital-radio: walkie-talkie
dinner-plate: feeding-bowl
dog-leash: cable-reel, extension-cord
duster: record-brush, whiteboard-eraser
duvet: sleeping-bag
easel: music-stand, repair-stand, tv-floor-stand
envelopes: record-sleeves
hammer: impact-drill, massage-gun
hammock: dog-car-seat-cover
lantern: table-lamp
mattress: cot-mattress
microphone: webcam
mixed-nuts: earring-backs
monitor: baby-cam, blood-pressure-monitor, smartwatch
mug: toothbrush-holder
pedestal-fan: case-fan, fan-remote
pram: dolls-pram
recorder: voice-recorder
ring: bangle, embroidery-hoop
rug: bath-mat, dog-blanket, doormat
safety-razor: ice-scraper
server: pasta-spoon
shampoo: car-shampoo
sideboard: photo-frame
soap-bar: floor-cleaner, soap-dispenser, washing-up-liquid
socks: felt-pads
sofa: side-table
steam-iron: harmonica, wheel-wrench
tablet: e-reader, graphics-tablet
travel-bag: console-case, machine-bag
tripod: easel, microphone-stand, repair-stand, selfie-stick
wall-socket: antenna-cable
water-bottle: hot-water-bottle
wristwatch: wall-clock
"""


def find_named_after() -> list[tuple[ProductType, ProductType]]:
    """Return (broad, narrow) where a name of one ends a name of the other: 'fan' and 'ceiling fan'."""
    kinds = load_taxonomy().types.values()
    named = [(name, kind) for kind in kinds for name in (*kind.names, *kind.synonyms)]
    owners: dict[str, list[ProductType]] = {}
    for name, kind in named:
        owners.setdefault(name, []).append(kind)
    return [
        (broad, narrow)
        for name, narrow in named
        for start in range(1, len(name.split()))
        for broad in owners.get(" ".join(name.split()[start:]), ())
        if broad is not narrow
    ]


def test_what_is_named_after_a_broader_thing_answers_for_it_unless_it_is_another_thing():
    lines = [line.split(": ") for line in DIFFERENT.strip().splitlines()]
    different = {(broad, narrow) for broad, narrows in lines for narrow in narrows.split(", ")}
    found = {
        (broad.slug, narrow.slug)
        for broad, narrow in find_named_after()
        if narrow.slug not in (*broad.substitutes, *broad.companions) and broad.slug not in narrow.companions
    }
    assert found == different


@pytest.mark.parametrize(
    ("accessory", "main"),
    [
        ("desk-lamp-clamp", "desk-lamp"),
        ("tap-aerator", "basin-tap"),
        ("speaker-stands", "bookshelf-speakers"),
        ("coffee-table", "sofa"),
        ("car-phone-holder", "car-charger"),
    ],
)
def test_accessories_are_for_the_main_thing_and_never_the_other_way_round(accessory, main):
    assert main not in load_taxonomy().types[accessory].accessories


@pytest.mark.parametrize(
    ("slug", "other"),
    [
        ("coffee-machine-filter", "kettle-descaler"),
        ("audio-cable", "hdmi-cable"),
        ("headphone-case", "headphone-stand"),
        ("projector", "television"),
        ("presenter", "computer-mouse"),
        ("led-strip", "mirror-light"),
        ("network-cable", "wifi-adapter"),
        ("uninterruptible-power-supply", "surge-protector"),
    ],
)
def test_what_serves_another_purpose_is_no_substitute(slug, other):
    assert other not in load_taxonomy().types[slug].substitutes
