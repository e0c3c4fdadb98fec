"""The words by which a prompt is taken apart: closed classes whole, open ones as far as prompts need them."""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


POSSESSIVES: Final = _words("my your his her its their our")
NUMBERS: Final = _words("one two three four five six seven eight nine ten dozen several many few some")
DETERMINERS: Final = POSSESSIVES | NUMBERS | _words("a an the this these those each every another no both all any")
BOUNDARIES: Final = _words(
    "on under over above below beneath beside besides behind near at by from to into onto through across along "
    "around between among against before after inside outside within without during toward towards past upon beyond "
    "for like as off up down out atop amid amidst next front while when where about via than until"
)
"""Words at which a noun phrase ends: prepositions, adverbs of place, and conjunctions."""

PRONOUNS: Final = _words("it he she they him them i you we us me itself himself herself themselves someone something")
COPULAS: Final = _words("is are was were")
RELATIVES: Final = _words("who that which")
HAVING: Final = _words("has have had with wearing wears holding holds carrying carries")
BINDING_VERBS: Final = HAVING | _words(
    "sporting wielding clutching gripping bearing wear hold carry wielded donning hugging"
)
"""Words between a subject and what it wears, holds or has."""

PARTICIPLES: Final = _words(
    "dressed clad covered made painted decorated adorned carved filled wrapped draped crowned full built woven studded "
    "trimmed coated topped lined garbed cloaked armed colored coloured"
)
"""Words between a subject and what it is made of or covered with."""

AFTER_PARTICIPLE: Final = _words("in of with from by out")

CONJUNCTIONS: Final = _words("and or & plus but")

PICTURES: Final = _words(
    "photo photograph photography picture image portrait painting drawing sketch illustration render rendering "
    "watercolor watercolour artwork art print poster closeup close-up shot view scene depiction study engraving "
    "quality resolution life depth detail details focus lighting light exposure grain angle lens bokeh style "
    "aesthetic mood atmosphere composition perspective hour blur colors colours palette tones masterpiece wallpaper "
    "viewer 3d anime manga comic cartoon nouveau score background-blur rating contrast hdr"
)
"""Nouns for the picture itself: never subjects."""

SCENERY: Final = _words(
    "background foreground sky lighting light bokeh mountains clouds distance horizon fog mist sunlight moonlight"
)
"""Nouns that belong to the scene rather than to the thing before `with`."""

STYLES: Final = _words(
    "cinematic photorealistic realistic detailed intricate epic vibrant dramatic symmetrical minimalist"
)
"""Adjectives of the picture rather than of a thing in it."""

NOUNS_TOO: Final = _words(
    "square metal stone glass plastic brick neon plaid orange gold silver bronze copper coral peach mint"
)
"""Adjectives that are nouns as well."""

PARTITIVES: Final = _words("pair group bunch couple set lot lots crowd pile stack row series number kind sort type")

RELATIONS: Final = _words("top left right middle side sides edge edges bottom corner corners front back centre center")
"""Where something is, rather than a thing, before `of`."""

CLOTHES: Final = _words(
    "suit armor armour gown uniform robe robes silk tutu apron jacket cloak dress tuxedo coat hat cap hood hoodie "
    "shirt blouse sweater scarf kimono cape mantle raincoat trench skirt trousers pants jeans shorts shoes boots "
    "gloves mittens veil mask crown helmet goggles glasses sunglasses overalls costume outfit clothes clothing rags "
    "velvet leather satin denim lace linen wool fur chainmail vest bikini swimsuit pajamas stockings socks tie turban "
    "sari toga tunic leotard jumpsuit spacesuit wig beret bonnet headscarf hijab sneakers sandals heels lingerie plaid"
)

COLOURS: Final = _words(
    "red orange yellow green blue purple violet pink brown black white grey gray gold golden silver beige cyan teal "
    "turquoise magenta crimson scarlet emerald cobalt indigo maroon ivory bronze copper amber lavender olive navy "
    "burgundy saffron lilac blonde blond brunette ginger azure ruby jade coral peach mint"
)

ADJECTIVES: Final = COLOURS | _words(
    "big small large little tiny huge giant tall short long old young new ancient modern thin fat thick slim narrow "
    "wide round square flat deep shallow high low dark bright pale light vivid warm cold hot cool wet dry soft hard "
    "smooth rough sharp clean dirty dusty rusty shiny glossy matte fresh ripe rotten sweet bitter fluffy furry hairy "
    "shaggy fuzzy woolly curly straight wavy bald wooden metal stone glass plastic ceramic brick striped spotted "
    "checkered plaid floral plain simple elegant ornate fancy beautiful pretty ugly cute handsome lovely happy sad "
    "angry calm quiet loud sleepy lazy tired brave wild tame strong weak heavy lightweight broken cracked torn empty "
    "full open closed abandoned ruined haunted magical mystical enchanted gothic medieval victorian vintage retro "
    "futuristic snowy rainy foggy misty stormy sunny cloudy starry sandy muddy mossy rocky icy frozen burning glowing "
    "shimmering transparent translucent metallic detailed intricate photorealistic realistic cinematic epic "
    "cozy vibrant colorful colourful symmetrical minimalist surreal dramatic highly ultra extremely very rather so "
    "dimly brightly pastel neon fierce gentle noble royal wise evil holy sacred lonely crowded busy steep crooked "
    "bent hollow solid liquid fiery frosty silky velvety bony skinny chubby muscular bearded freckled wrinkled tattooed"
)

ADJECTIVE_ENDINGS: Final = ("ful", "ous", "ish", "less", "ic", "ive", "able", "ible", "esque", "like")

NOT_VERBS: Final = _words(
    "ring king string wing spring evening morning building painting ceiling clothing earring lightning thing sling "
    "being viking pudding wedding sibling duckling feeling railing swing offspring earrings bling sterling"
)
"""Nouns that end as verbs do."""

STATES: Final = _words("asleep awake alone seated alight afloat ablaze apart together away back outdoors indoors")

VERBS: Final = _words(
    "sit stand walk run play meet leap jump fly float swim ride drive read write eat drink watch look stare smile "
    "laugh dance sing sleep rest lie lean perform steal climb circle rise set fall drift cross crawl glide wave "
    "wait build lead face share spin chase follow carry hold wear guard hug kiss fight attack hunt fish cook bake "
    "pour serve feed water plant paint draw sell buy order lift push pull throw catch kick hit raise lower open "
    "close cut weep cry scream shout whisper talk speak listen hear see find hide seek hang swing roll slide slip "
    "sail row fire shoot burn glow shine sparkle flicker drip flow splash bloom grow stretch kneel crouch bend pray "
    "meditate work study rescue save stroll wander march explore discover enter leave visit peek peer gaze stir "
    "knead chew bite lick sniff dig scratch sweep wash clean fix repair make reach touch point turn juggle balance "
    "hover soar wrap"
)
"""Base forms; their endings show them as verbs."""

OBJECT_VERBS: Final = _words(
    "eating drinking reading playing riding driving watching chasing painting feeding pouring throwing catching "
    "cooking making building writing using touching hugging kissing petting stirring cutting smoking pulling pushing"
)
"""Verb forms that begin a tag and take what follows as their object."""

ANIMATE: Final = _words(
    "man woman boy girl child baby kid person lady gentleman guy king queen prince princess knight wizard witch mage "
    "warrior soldier samurai ninja pirate sailor pilot astronaut chef waiter waitress nurse doctor dancer singer "
    "musician painter monk priest priestess nun angel demon devil ghost vampire zombie skeleton robot cyborg alien elf "
    "dwarf orc goblin troll giant fairy mermaid dragon unicorn phoenix cat kitten dog puppy wolf fox bear lion tiger "
    "horse pony cow goat sheep lamb pig rabbit bunny mouse rat hamster squirrel hedgehog deer elephant giraffe zebra "
    "monkey ape gorilla panda koala bird crow raven owl eagle hawk parrot swan duck goose chicken rooster hen penguin "
    "flamingo peacock fish shark whale dolphin octopus squid turtle tortoise frog toad lizard snake crocodile snail "
    "spider bee bumblebee butterfly ant beetle"
)

COMPOUNDS: Final = frozenset(
    (
        "teddy bear,polar bear,grizzly bear,snow leopard,blue jay,sea turtle,guinea pig,stuffed animal,rubber duck,"
        "ice cream,hot dog,coffee cup,tea cup,police car,fire truck,street lamp,traffic light,pocket watch,"
        "christmas tree,palm tree,pine tree,oak tree,cherry tree,air balloon,top hat,straw hat,space suit,"
        "space station,upper body,full body,lower body,fairy tale,washing machine,rocking chair,swimming pool,"
        "magnifying glass,rag doll,grand piano"
    ).split(",")
)
"""Two words for one thing: without the first, the second would be another thing."""
