package app

// Misspelt finds names that are nearly ours.
var Misspelt = misspelt
