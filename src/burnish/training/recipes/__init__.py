"""What each training is made of: data, network, loss, validation, the file that comes out."""
