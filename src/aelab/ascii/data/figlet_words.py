"""Words for FIGlet pictures: common English ones, invented pronounceable ones, and numbers."""

from __future__ import annotations

import random

#: Common English words of two to six letters.
COMMON = tuple(
    """
    able acid aged also area army away axe baby back bad bag ball band bank bar base bat bath bear
    beat bed bee bell belt best bet bid big bike bill bird bit black blood blue board boat body bone
    book boot born both bowl box boy brain bread brick brown bug burn bus buy cab cake call calm
    camp can cap car card care case cash cat cell chair chin city clay clean clock cloud club coal
    coat code coin cold cook cool copy corn cost cow crab cream crop cross cry cup cut dad dark data
    date dawn day dead deal dear deep deer desk dew dirt dish dog door dot down draw dream dress dry
    duck dust duty each ear earth east easy eat edge egg end even ever exit eye face fact fair fall
    far farm fast fat fear feel feet few field fig file film find fire fish fit five fix flag flat
    flow fly fog food foot fork form four fox free frog from fruit fuel full fun gap gas gate gift
    girl glad glass go goal goat gold good grand grass gray green grey grow guide gum gun hair half
    hall hand hard hat have hay he head hear heart heat help hen herb hero hi high hill hip hit
    hold hole home hood hook hope horse hot hour house how hub hug hunt ice idea if ill in ink inn
    iron is it jam jar jaw jazz jet job join joke joy judge jug jump just keep key kick kid kind
    king kiss kit kite knee knife know lab lack lady lake lamb lamp land last late law lay lazy leaf
    left leg lemon let life lift light like lime line lion lip list live load lock log long look
    lost love low luck lung mad maid mail main make man map mark mat may me meal meat melt men mild
    milk mind mix moon more moss most mouse mouth move much mud music my nail name near neck need
    nest net new news next nice night nine no nod noise north nose not note now nut oak oat ocean
    odd of oil old on once one only open or orange our out oven over owl own ox pack page paint
    palm pan paper park part past path pay pea peak pear pen pet piano pie pig pin pipe place plan
    play plot plum poem point pole pond pony poor pot press proud pull pump push quack queen quick
    quiet quiz rabbit race radio rain ram rat raw read real red rest rice rich ride right ring rise
    river road rock roof room root rope rose round rub rug run rush sad safe sail salt sand save saw
    say sea seat see seed sell send set seven shade shape sharp she sheep ship shirt shoe shop sign
    silk silver sing sir sit six size skin sky sleep slow small smell smile smoke snake snow so soap
    soft song soon soul sound soup south space spoon spot star stay steam steel stem step stick
    stone storm sugar sun swan sweet swim table tail take tale talk tall tape tar task tax tea team
    ten tent test the thin tie tiger time tin tip to toe tom tone tool tooth top torch town toy
    train tree trip true try tub tune turn two under up us use van vase verb very vest view voice
    vote wall want warm wash water wave wax way we weak wear web week well west wet what wheel when
    white who why wide wife wig win wind wine wing wise wolf wood wool word work world yard yarn
    year yell yes yet yolk you young zebra zero zinc zone zoo
    """.split()
)

_ONSETS = "b c d f g h j k l m n p q r s t v w x y z br ch cl dr fl gr pl sh st th tr".split()
_VOWELS = "a e i o u a e i o u ai ea ee io oa ou".split()
_ENDS = [*"b d g k l m n p r s t x z f w v".split(), "", "", "", "ck", "nd", "st"]
_LONGEST = 6
_NUMBERS_SHARE = 0.06


def default_words(count: int) -> list[str]:
    """`count` different words in lower case, always the same; a shorter list is its start.

    Takes turns between common English words and invented syllables, with some numbers of two to
    four digits. After the last common word, only invented ones follow.
    """
    generator = random.Random("aelab words 1")
    common = list(COMMON)
    generator.shuffle(common)
    found: dict[str, None] = {}
    while len(found) < count:
        if generator.random() < _NUMBERS_SHARE:
            word = str(generator.randrange(10, 10_000))
        elif common and generator.random() < 0.5:
            word = common.pop()
        else:
            word = _invented(generator)
        found[word] = None
    return list(found)


def _invented(generator: random.Random) -> str:
    """One or two pronounceable syllables, of two to six letters."""
    word = ""
    for _ in range(generator.choice((1, 1, 2))):
        parts = (_ONSETS, _VOWELS, _ENDS)
        word += "".join(generator.choice(part) for part in parts)
    return word[:_LONGEST]
