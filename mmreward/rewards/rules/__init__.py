"""Verifiable rewards: rules that check a response against its target, without a model.

Boxes and points (`boxes`, `pointing`), time spans (`temporal`), multiple choice (`choice`, `options`), labels
and yes or no (`classification`), counts (`count`), mathematics and mixed answers (`math`), transcriptions
(`ocr`), perception probes (`probes`), and the form of a response: tags, length, repetition (`form`). Each
file has its parser; what several share is in `mmreward.verifiers`, the reader of answers first
(`verifiers.reading`). A response that cannot be read is worth 0 with `parts["parsed"]` 0.
"""
