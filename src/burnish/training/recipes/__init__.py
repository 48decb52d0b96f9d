"""One module per recipe: ``train(task)`` trains and returns the files that come out."""
