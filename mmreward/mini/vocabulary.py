"""Common English words the mini-vlm's tokenizer knows beside its tasks' own; it is trained on none."""

COMMON = """
able about across add after again all almost alone along also always am an and animal another any anything
are area around as ask asked at away back background bad based be because been before behind below beside
best better between big bird bit black body book both bottom box boy brief bright bring brown build but by
call camera can car cat center centre certain change check child city clean clear close cloud cold color
colors colour colours come compare complete contain contains corner correct could count cover create
critique dark day describe description desk detail did different do does dog done door down draw drawing
drawn each early easy edge eight either else empty end enough even evening every exactly example except
explain eye face fact far few field find fine first fish five flower follow following food for found four
from front full game garden get girl give given go good grade grass gray great grey ground group grow had
half hand happy hard has have he head help her here high hill him his hold horse house how human i idea if
image images important in inside instead into is it its judge just keep kind know lake large last late least
leave left less let letter light like line list little long look low made main make man many mark match
matches may me mean medium middle might mine more morning most mountain move much must my name near need
never new next nice night nine no none nor not note now number object objects of off old on once only open
or orange order other our out outside over own page paint painting paper part people perfect person photo
photograph picture pictures piece pink place plain plane plant please point position possible present
problem prompt put quality question quick quickly rate rather read real reason reasoning red request
response result right river road room round row rule same say scene scale score second see seen seven shade
shape short should show side simple single six size sky small smooth snow so some someone something soon
special stand star start step still stone street strong style subject such sun sure table take tall task
tell ten text than that the their them then there these they thing things think this those three through
time to together too top tree true try turn two type under up upon us use user very video view visible want
was water way we well were what when where whether which while white who whole why wide will wind window
with within without woman wood word words work world worst would write wrong year yes yet you young your
false thumbs realistic cartoon digital art sharp blurry blur noise noisy texture
"""
