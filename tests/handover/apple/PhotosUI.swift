// What the app uses of PhotosUI and CoreTransferable.

@_exported import SwiftUI

public protocol Transferable {}
extension Data: Transferable {}

public struct PHPickerFilter { public static var images: PHPickerFilter { PHPickerFilter() } }

public struct PhotosPickerItem: Equatable, Hashable, Sendable {
    public func loadTransferable<T: Transferable & Sendable>(type: T.Type) async throws -> T? { nil }
}

public struct PhotosPicker<L: View>: Leaf {
    public init(selection: Binding<PhotosPickerItem?>, matching: PHPickerFilter?, @ViewBuilder label: () -> L) {}
}
