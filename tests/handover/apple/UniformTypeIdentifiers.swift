// What the app uses of UniformTypeIdentifiers.

@_exported import Foundation

public struct UTType: Sendable { public static let json = UTType() }
