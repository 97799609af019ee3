"""Published judges: released vision-language models that say why before how good, in their own words.

A file declares a family (`declaring.Judge`): its prompt, which is fetched from its publisher and checked
(`words=published`), or written here (`words=own`); what it is shown; the grammar in which it answers; and how
its marks become one value. The checkpoint is named by `judge`, in this process or as MODEL@URL. Pair judges
are asked in both orders. What cannot be read, and what contradicts itself, is a failure and no mark.
"""
